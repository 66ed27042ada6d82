// Signatures that this project calls, from https://developer.android.com/reference/android/system/ErrnoException
package android.system;

public final class ErrnoException extends Exception {
}
