// Signatures that this project calls, from https://developer.android.com/reference/android/widget/Spinner
package android.widget;

import android.view.View;

public class Spinner extends View {
    public void setAdapter(SpinnerAdapter adapter) { throw new RuntimeException("Stub!"); }
    public SpinnerAdapter getAdapter() { throw new RuntimeException("Stub!"); }
    public int getSelectedItemPosition() { throw new RuntimeException("Stub!"); }
}
