package dev.edgefiqa.demo

import android.graphics.Bitmap
import android.graphics.ColorSpace
import android.graphics.ImageDecoder
import dev.edgefiqa.core.ArgbRows
import dev.edgefiqa.core.PhotoDecoder
import dev.edgefiqa.core.PixelRows
import dev.edgefiqa.core.Preprocessor
import dev.edgefiqa.core.ScorerException
import java.io.IOException
import java.nio.ByteBuffer

/**
 * Decodes photographs as the scorers were trained on them.
 *
 * The EXIF orientation is applied, transparency is kept apart until it is laid over white, nothing
 * is scaled, and the stored values are taken as sRGB whatever profile the file embeds: the input
 * contract ignores profiles, here as in Python.
 */
object AndroidPhotoDecoder : PhotoDecoder {
    override fun decode(content: ByteArray): PixelRows {
        val bitmap = asSrgb(decodeBitmap(content))
        return ArgbRows(bitmap.width, bitmap.height) { y, into ->
            bitmap.getPixels(into, 0, bitmap.width, 0, y, bitmap.width, 1)
        }
    }

    /**
     * Decodes a small copy to show.
     *
     * @param content the photograph's file
     * @param longSide at most about this many pixels
     */
    fun decodePreview(
        content: ByteArray,
        longSide: Int,
    ): Bitmap =
        ImageDecoder.decodeBitmap(ImageDecoder.createSource(ByteBuffer.wrap(content))) { decoder, info, _ ->
            val longest = maxOf(info.size.width, info.size.height)
            decoder.setTargetSampleSize(maxOf(1, longest / longSide))
        }

    private fun decodeBitmap(content: ByteArray): Bitmap =
        try {
            ImageDecoder.decodeBitmap(ImageDecoder.createSource(ByteBuffer.wrap(content))) { decoder, info, _ ->
                checkPixels(info.size.width, info.size.height)
                decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE
                decoder.isUnpremultipliedRequired = true
            }
        } catch (error: IOException) {
            throw ScorerException(
                "this is not a photo that this device can read",
                allowed = "JPEG, PNG, WebP, HEIF or GIF",
                nextStep = "save it as JPEG",
                cause = error,
            )
        }

    private fun checkPixels(
        width: Int,
        height: Int,
    ) {
        if (width.toLong() * height > Preprocessor.MAX_PIXELS) {
            val allowed = "at most ${Preprocessor.MAX_PIXELS} pixels"
            throw ScorerException("the photo is too large", "${width}x$height", allowed, "scale it down first")
        }
    }

    /** Names the pixels sRGB without touching them, so that reading them converts nothing. */
    private fun asSrgb(bitmap: Bitmap): Bitmap {
        val eightBit =
            if (bitmap.config == Bitmap.Config.ARGB_8888) {
                bitmap
            } else {
                bitmap.copy(Bitmap.Config.ARGB_8888, false)
                    ?: throw ScorerException("this device cannot convert the photo to 8 bits", bitmap.config)
            }
        eightBit.setColorSpace(ColorSpace.get(ColorSpace.Named.SRGB))
        return eightBit
    }
}
