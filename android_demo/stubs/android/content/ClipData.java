// Signatures that this project calls, from https://developer.android.com/reference/android/content/ClipData
package android.content;

import android.net.Uri;

public class ClipData {
    public int getItemCount() { throw new RuntimeException("Stub!"); }
    public Item getItemAt(int index) { throw new RuntimeException("Stub!"); }
    public static class Item {
        public Uri getUri() { throw new RuntimeException("Stub!"); }
    }
}
