// Signatures that this project calls, from https://developer.android.com/reference/android/content/IntentFilter
package android.content;

public class IntentFilter {
    public IntentFilter(String action) { throw new RuntimeException("Stub!"); }
}
