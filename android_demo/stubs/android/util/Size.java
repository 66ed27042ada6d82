// Signatures that this project calls, from https://developer.android.com/reference/android/util/Size
package android.util;

public final class Size {
    public int getWidth() { throw new RuntimeException("Stub!"); }
    public int getHeight() { throw new RuntimeException("Stub!"); }
}
