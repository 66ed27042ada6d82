// Signatures that this project calls, from https://developer.android.com/reference/android/content/ContentResolver
package android.content;

import android.net.Uri;
import androidx.annotation.Nullable;
import java.io.FileNotFoundException;
import java.io.InputStream;

public abstract class ContentResolver {
    @Nullable public final InputStream openInputStream(Uri uri) throws FileNotFoundException { throw new RuntimeException("Stub!"); }
    @Nullable public final Uri insert(Uri url, @Nullable ContentValues values) { throw new RuntimeException("Stub!"); }
    public final int delete(Uri url, @Nullable String where, @Nullable String[] selectionArgs) { throw new RuntimeException("Stub!"); }
}
