// Signatures that this project calls, from https://developer.android.com/reference/android/os/SystemClock
package android.os;

public final class SystemClock {
    public static long elapsedRealtimeNanos() { throw new RuntimeException("Stub!"); }
}
