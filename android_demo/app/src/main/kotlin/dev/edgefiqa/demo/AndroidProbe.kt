package dev.edgefiqa.demo

import android.app.ActivityManager
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager
import android.os.SystemClock
import android.system.Os
import android.system.OsConstants
import dev.edgefiqa.core.DeviceInfo
import dev.edgefiqa.core.DeviceProbe
import dev.edgefiqa.core.DeviceState
import java.io.File

/**
 * Reads what Android tells every app about the device, its heat and its battery.
 *
 * @param context any context of this app
 */
class AndroidProbe(
    private val context: Context,
) : DeviceProbe {
    override fun info(): DeviceInfo =
        DeviceInfo(
            manufacturer = Build.MANUFACTURER,
            model = Build.MODEL,
            soc = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) Build.SOC_MODEL else "",
            system = "Android ${Build.VERSION.RELEASE}",
            apiLevel = Build.VERSION.SDK_INT,
            abis = Build.SUPPORTED_ABIS.toList(),
            cores = Runtime.getRuntime().availableProcessors(),
            pageSizeBytes = Os.sysconf(OsConstants._SC_PAGESIZE),
            memoryBytes = memory().totalMem,
        )

    override fun state(): DeviceState {
        val power = context.getSystemService(PowerManager::class.java)
        val battery = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
        return DeviceState(
            uptimeNs = SystemClock.elapsedRealtimeNanos(),
            thermalStatus = THERMAL_STATUS[power?.currentThermalStatus] ?: "unknown",
            thermalHeadroom = power?.let(::thermalHeadroom),
            batteryPercent = battery?.let(::percent),
            batteryCelsius = battery?.extra(BatteryManager.EXTRA_TEMPERATURE)?.let { it / TENTHS },
            charging = battery?.extra(BatteryManager.EXTRA_PLUGGED)?.let { it != 0 },
            powerSave = power?.isPowerSaveMode,
            availableMemoryBytes = memory().availMem,
        )
    }

    override fun peakRssBytes(): Long? {
        val line = File("/proc/self/status").readLines().find { it.startsWith("VmHWM:") } ?: return null
        return line.filter(Char::isDigit).toLongOrNull()?.times(KIB)
    }

    private fun memory() =
        ActivityManager.MemoryInfo().also { context.getSystemService(ActivityManager::class.java)?.getMemoryInfo(it) }

    private fun thermalHeadroom(power: PowerManager): Double? =
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) {
            power.getThermalHeadroom(0).toDouble().takeIf { it.isFinite() }
        } else {
            null
        }

    private fun percent(battery: Intent): Int? {
        val level = battery.extra(BatteryManager.EXTRA_LEVEL) ?: return null
        val scale = battery.extra(BatteryManager.EXTRA_SCALE)?.takeIf { it > 0 } ?: return null
        return (100 * level / scale).coerceIn(0, 100)
    }

    private fun Intent.extra(name: String): Int? = if (hasExtra(name)) getIntExtra(name, 0) else null

    private companion object {
        const val KIB = 1024L
        const val TENTHS = 10.0
        val THERMAL_STATUS: Map<Int?, String> =
            mapOf(
                PowerManager.THERMAL_STATUS_NONE to "none",
                PowerManager.THERMAL_STATUS_LIGHT to "light",
                PowerManager.THERMAL_STATUS_MODERATE to "moderate",
                PowerManager.THERMAL_STATUS_SEVERE to "severe",
                PowerManager.THERMAL_STATUS_CRITICAL to "critical",
                PowerManager.THERMAL_STATUS_EMERGENCY to "emergency",
                PowerManager.THERMAL_STATUS_SHUTDOWN to "shutdown",
            )
    }
}
