// Signatures that this project calls, from https://developer.android.com/reference/androidx/annotation/Nullable
package androidx.annotation;

public @interface Nullable {
}
