// Signatures that this project calls, from https://developer.android.com/reference/android/graphics/Bitmap
package android.graphics;

import androidx.annotation.Nullable;

public final class Bitmap {
    public enum Config { ALPHA_8, RGB_565, ARGB_4444, ARGB_8888, RGBA_F16, HARDWARE }
    public int getWidth() { throw new RuntimeException("Stub!"); }
    public int getHeight() { throw new RuntimeException("Stub!"); }
    @Nullable public Config getConfig() { throw new RuntimeException("Stub!"); }
    @Nullable public Bitmap copy(Config config, boolean isMutable) { throw new RuntimeException("Stub!"); }
    public void setColorSpace(ColorSpace colorSpace) { throw new RuntimeException("Stub!"); }
    public void getPixels(int[] pixels, int offset, int stride, int x, int y, int width, int height) { throw new RuntimeException("Stub!"); }
}
