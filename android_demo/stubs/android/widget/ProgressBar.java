// Signatures that this project calls, from https://developer.android.com/reference/android/widget/ProgressBar
package android.widget;

import android.view.View;

public class ProgressBar extends View {
}
