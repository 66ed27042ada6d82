// Signatures that this project calls, from https://developer.android.com/reference/android/provider/MediaStore
package android.provider;

import android.net.Uri;

public final class MediaStore {
    public static final String ACTION_IMAGE_CAPTURE = "android.media.action.IMAGE_CAPTURE";
    public static final String ACTION_PICK_IMAGES = "android.provider.action.PICK_IMAGES";
    public static final String EXTRA_OUTPUT = "output";
    public static final String EXTRA_PICK_IMAGES_MAX = "android.provider.extra.PICK_IMAGES_MAX";
    public interface MediaColumns {
        String MIME_TYPE = "mime_type";
    }
    public static final class Images {
        public static final class Media {
            public static final Uri EXTERNAL_CONTENT_URI = null;
        }
    }
}
