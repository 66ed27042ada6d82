// Signatures that this project calls, from https://developer.android.com/reference/androidx/annotation/NonNull
package androidx.annotation;

public @interface NonNull {
}
