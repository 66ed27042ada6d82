// Signatures that this project calls, from https://developer.android.com/reference/android/app/Instrumentation
package android.app;

import android.content.Context;
import android.os.Bundle;

public class Instrumentation {
    public void onCreate(Bundle arguments) { throw new RuntimeException("Stub!"); }
    public void start() { throw new RuntimeException("Stub!"); }
    public void onStart() { throw new RuntimeException("Stub!"); }
    public void finish(int resultCode, Bundle results) { throw new RuntimeException("Stub!"); }
    public Context getTargetContext() { throw new RuntimeException("Stub!"); }
}
