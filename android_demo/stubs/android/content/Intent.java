// Signatures that this project calls, from https://developer.android.com/reference/android/content/Intent
package android.content;

import android.net.Uri;
import android.os.Parcelable;
import androidx.annotation.Nullable;

public class Intent {
    public static final String ACTION_BATTERY_CHANGED = "android.intent.action.BATTERY_CHANGED";
    public static final String ACTION_OPEN_DOCUMENT = "android.intent.action.OPEN_DOCUMENT";
    public static final String CATEGORY_OPENABLE = "android.intent.category.OPENABLE";
    public static final String EXTRA_ALLOW_MULTIPLE = "android.intent.extra.ALLOW_MULTIPLE";
    public static final int FLAG_GRANT_READ_URI_PERMISSION = 0x00000001;
    public static final int FLAG_GRANT_WRITE_URI_PERMISSION = 0x00000002;
    public Intent(String action) { throw new RuntimeException("Stub!"); }
    public Intent setType(@Nullable String type) { throw new RuntimeException("Stub!"); }
    public Intent addCategory(String category) { throw new RuntimeException("Stub!"); }
    public Intent addFlags(int flags) { throw new RuntimeException("Stub!"); }
    public Intent putExtra(String name, int value) { throw new RuntimeException("Stub!"); }
    public Intent putExtra(String name, boolean value) { throw new RuntimeException("Stub!"); }
    public Intent putExtra(String name, @Nullable Parcelable value) { throw new RuntimeException("Stub!"); }
    public boolean hasExtra(String name) { throw new RuntimeException("Stub!"); }
    public int getIntExtra(String name, int defaultValue) { throw new RuntimeException("Stub!"); }
    @Nullable public Uri getData() { throw new RuntimeException("Stub!"); }
    @Nullable public ClipData getClipData() { throw new RuntimeException("Stub!"); }
}
