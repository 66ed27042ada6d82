// Signatures that this project calls, from https://developer.android.com/reference/android/widget/ImageView
package android.widget;

import android.graphics.Bitmap;
import android.view.View;
import androidx.annotation.Nullable;

public class ImageView extends View {
    public void setImageBitmap(@Nullable Bitmap bm) { throw new RuntimeException("Stub!"); }
}
