// Signatures that this project calls, from https://developer.android.com/reference/android/content/res/AssetManager
package android.content.res;

import java.io.IOException;
import java.io.InputStream;

public final class AssetManager {
    public InputStream open(String fileName) throws IOException { throw new RuntimeException("Stub!"); }
}
