// Signatures that this project calls, from https://developer.android.com/reference/android/os/Bundle
package android.os;

import androidx.annotation.Nullable;

public final class Bundle implements Parcelable {
    public Bundle() { throw new RuntimeException("Stub!"); }
    @Nullable public String getString(@Nullable String key) { throw new RuntimeException("Stub!"); }
    public void putString(@Nullable String key, @Nullable String value) { throw new RuntimeException("Stub!"); }
}
