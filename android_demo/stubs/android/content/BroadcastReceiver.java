// Signatures that this project calls, from https://developer.android.com/reference/android/content/BroadcastReceiver
package android.content;

public abstract class BroadcastReceiver {
}
