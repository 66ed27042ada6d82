// Signatures that this project calls, from https://developer.android.com/reference/android/os/Looper
package android.os;

public final class Looper {
    public static Looper getMainLooper() { throw new RuntimeException("Stub!"); }
}
