// Signatures that this project calls, from https://developer.android.com/reference/android/os/BatteryManager
package android.os;

public class BatteryManager {
    public static final String EXTRA_LEVEL = "level";
    public static final String EXTRA_SCALE = "scale";
    public static final String EXTRA_TEMPERATURE = "temperature";
    public static final String EXTRA_PLUGGED = "plugged";
}
