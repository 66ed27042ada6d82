// Signatures that this project calls, from https://developer.android.com/reference/android/graphics/ImageDecoder
package android.graphics;

import android.util.Size;
import java.io.IOException;
import java.nio.ByteBuffer;

public final class ImageDecoder implements AutoCloseable {
    public static final int ALLOCATOR_SOFTWARE = 1;
    public static Source createSource(ByteBuffer buffer) { throw new RuntimeException("Stub!"); }
    public static Bitmap decodeBitmap(Source src, OnHeaderDecodedListener listener) throws IOException { throw new RuntimeException("Stub!"); }
    public void setTargetSampleSize(int sampleSize) { throw new RuntimeException("Stub!"); }
    public void setAllocator(int allocator) { throw new RuntimeException("Stub!"); }
    public int getAllocator() { throw new RuntimeException("Stub!"); }
    public void setUnpremultipliedRequired(boolean unpremultipliedRequired) { throw new RuntimeException("Stub!"); }
    public boolean isUnpremultipliedRequired() { throw new RuntimeException("Stub!"); }
    @Override public void close() { throw new RuntimeException("Stub!"); }
    public abstract static class Source {
    }
    public static class ImageInfo {
        public Size getSize() { throw new RuntimeException("Stub!"); }
    }
    public interface OnHeaderDecodedListener {
        void onHeaderDecoded(ImageDecoder decoder, ImageInfo info, Source source);
    }
}
