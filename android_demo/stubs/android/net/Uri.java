// Signatures that this project calls, from https://developer.android.com/reference/android/net/Uri
package android.net;

import android.os.Parcelable;

public abstract class Uri implements Parcelable {
    public static Uri parse(String uriString) { throw new RuntimeException("Stub!"); }
    @Override public abstract String toString();
}
