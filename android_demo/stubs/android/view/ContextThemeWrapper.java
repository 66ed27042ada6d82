// Signatures that this project calls, from https://developer.android.com/reference/android/view/ContextThemeWrapper
package android.view;

import android.content.ContextWrapper;

public class ContextThemeWrapper extends ContextWrapper {
}
