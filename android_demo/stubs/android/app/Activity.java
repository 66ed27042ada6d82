// Signatures that this project calls, from https://developer.android.com/reference/android/app/Activity
package android.app;

import android.content.Intent;
import android.os.Bundle;
import android.view.ContextThemeWrapper;
import android.view.View;
import androidx.annotation.NonNull;
import androidx.annotation.Nullable;

public class Activity extends ContextThemeWrapper {
    public static final int RESULT_CANCELED = 0;
    public static final int RESULT_OK = -1;
    protected void onCreate(@Nullable Bundle savedInstanceState) { throw new RuntimeException("Stub!"); }
    protected void onSaveInstanceState(@NonNull Bundle outState) { throw new RuntimeException("Stub!"); }
    protected void onDestroy() { throw new RuntimeException("Stub!"); }
    protected void onActivityResult(int requestCode, int resultCode, @Nullable Intent data) { throw new RuntimeException("Stub!"); }
    public void setContentView(int layoutResID) { throw new RuntimeException("Stub!"); }
    @NonNull public final <T extends View> T requireViewById(int id) { throw new RuntimeException("Stub!"); }
    public void startActivityForResult(Intent intent, int requestCode) { throw new RuntimeException("Stub!"); }
    @Nullable public Object getLastNonConfigurationInstance() { throw new RuntimeException("Stub!"); }
    public Object onRetainNonConfigurationInstance() { throw new RuntimeException("Stub!"); }
    public boolean isChangingConfigurations() { throw new RuntimeException("Stub!"); }
}
