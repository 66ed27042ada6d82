// Signatures that this project calls, from https://developer.android.com/reference/android/content/Context
package android.content;

import android.content.res.AssetManager;
import androidx.annotation.Nullable;
import java.io.File;

public class Context {
    public AssetManager getAssets() { throw new RuntimeException("Stub!"); }
    public ContentResolver getContentResolver() { throw new RuntimeException("Stub!"); }
    public Context getApplicationContext() { throw new RuntimeException("Stub!"); }
    public String getPackageName() { throw new RuntimeException("Stub!"); }
    public File getNoBackupFilesDir() { throw new RuntimeException("Stub!"); }
    @Nullable public File getExternalFilesDir(@Nullable String type) { throw new RuntimeException("Stub!"); }
    @Nullable public final <T> T getSystemService(Class<T> serviceClass) { throw new RuntimeException("Stub!"); }
    @Nullable public Intent registerReceiver(@Nullable BroadcastReceiver receiver, IntentFilter filter) { throw new RuntimeException("Stub!"); }
    public final String getString(int resId) { throw new RuntimeException("Stub!"); }
    public final String getString(int resId, Object... formatArgs) { throw new RuntimeException("Stub!"); }
}
