// Signatures that this project calls, from https://developer.android.com/reference/android/graphics/ColorSpace
package android.graphics;

public abstract class ColorSpace {
    public enum Named { SRGB }
    public static ColorSpace get(Named name) { throw new RuntimeException("Stub!"); }
}
