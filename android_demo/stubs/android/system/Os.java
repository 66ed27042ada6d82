// Signatures that this project calls, from https://developer.android.com/reference/android/system/Os
package android.system;

public final class Os {
    public static long sysconf(int name) { throw new RuntimeException("Stub!"); }
    public static void setenv(String name, String value, boolean overwrite) throws ErrnoException { throw new RuntimeException("Stub!"); }
}
