// Signatures that this project calls, from https://developer.android.com/reference/android/app/ActivityManager
package android.app;

public class ActivityManager {
    public void getMemoryInfo(MemoryInfo outInfo) { throw new RuntimeException("Stub!"); }
    public static class MemoryInfo {
        public long availMem;
        public long totalMem;
    }
}
