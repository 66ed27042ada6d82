package dev.edgefiqa.core

/**
 * Upright RGB picture to scorer input: the Kotlin side of `edgefiqa.preprocess`.
 *
 * @property size side S of the network's square input, in pixels
 */
class Preprocessor(
    val size: Int,
) {
    init {
        if (size !in MIN_SIZE..MAX_SIZE) {
            throw ScorerException("the input size is not usable", size, "$MIN_SIZE to $MAX_SIZE pixels")
        }
    }

    /**
     * Resizes the short side to [size] and cuts the central square.
     *
     * @param picture upright RGB picture of any size
     * @return `size * size * 3` unsigned bytes, NHWC, RGB, 0..255
     */
    fun toTensor(picture: PixelRows): ByteArray {
        val (width, height) = resizedShape(picture.width, picture.height)
        if (width.toLong() * height > MAX_PIXELS) {
            throw ScorerException(
                "the photo is too narrow: ${picture.width}x${picture.height} becomes ${width}x$height",
                allowed = "at most $MAX_PIXELS pixels after resizing",
                nextStep = "crop it around the face",
            )
        }
        val left = cropOffset(width)
        val top = cropOffset(height)
        return Resampler.resizeWindow(picture, width, height, left, top, size, size).pixels
    }

    /** Width and height in pixels after resizing: the long side is `int(size * long / short)`. */
    fun resizedShape(
        width: Int,
        height: Int,
    ): Pair<Int, Int> {
        // The product first, then one floating-point division: Python's order and rounding.
        val product = size.toLong() * maxOf(width, height)
        val long = (product.toDouble() / minOf(width, height)).toLong()
        val side = long.coerceAtMost(Int.MAX_VALUE.toLong()).toInt()
        return if (width <= height) size to side else side to size
    }

    /** First row or column of the crop in pixels: `(length - size) / 2`, halves to even. */
    private fun cropOffset(length: Int): Int = Math.rint((length - size) / 2.0).toInt()

    companion object {
        /** Smallest allowed input side in pixels. */
        const val MIN_SIZE = 16

        /** Largest allowed input side in pixels. */
        const val MAX_SIZE = 4096

        /** Largest photograph, before and after resizing, in pixels. */
        const val MAX_PIXELS = 178_956_970L
    }
}
