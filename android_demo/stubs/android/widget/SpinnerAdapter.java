// Signatures that this project calls, from https://developer.android.com/reference/android/widget/SpinnerAdapter
package android.widget;

public interface SpinnerAdapter {
}
