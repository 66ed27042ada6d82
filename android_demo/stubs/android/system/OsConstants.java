// Signatures that this project calls, from https://developer.android.com/reference/android/system/OsConstants
package android.system;

public final class OsConstants {
    public static final int _SC_PAGESIZE = 0;
}
