// Signatures that this project calls, from https://developer.android.com/reference/android/content/ContextWrapper
package android.content;

public class ContextWrapper extends Context {
}
