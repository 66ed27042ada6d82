// Signatures that this project calls, from https://developer.android.com/reference/android/widget/TextView
package android.widget;

import android.view.View;

public class TextView extends View {
    public final void setText(CharSequence text) { throw new RuntimeException("Stub!"); }
    public CharSequence getText() { throw new RuntimeException("Stub!"); }
}
