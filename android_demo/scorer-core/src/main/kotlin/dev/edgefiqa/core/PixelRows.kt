package dev.edgefiqa.core

/** An upright picture that is read row by row, so that 100-megapixel photographs need no copy. */
interface PixelRows {
    /** Width in pixels, at least 1. */
    val width: Int

    /** Height in pixels, at least 1. */
    val height: Int

    /**
     * Copies row [y] into [into] as [width] RGB triples of unsigned bytes.
     *
     * @param y row from the top, 0 until [height]
     * @param into at least `3 * width` bytes
     */
    fun readRow(
        y: Int,
        into: ByteArray,
    )
}

/**
 * An RGB picture in memory.
 *
 * @property width in pixels
 * @property height in pixels
 * @property pixels `height * width * 3` unsigned bytes, row by row, RGB interleaved
 */
class RgbImage(
    override val width: Int,
    override val height: Int,
    val pixels: ByteArray,
) : PixelRows {
    init {
        requireSides(width, height)
        if (pixels.size.toLong() != 3L * width * height) {
            throw ScorerException("the pixels do not fill the picture", pixels.size, "${3L * width * height} bytes")
        }
    }

    override fun readRow(
        y: Int,
        into: ByteArray,
    ) {
        pixels.copyInto(into, 0, 3 * width * y, 3 * width * (y + 1))
    }
}

/** Gives one row of a picture with transparency. */
fun interface ArgbSource {
    /**
     * Copies row [y] into [into]: one `0xAARRGGBB` a pixel, colours not premultiplied.
     *
     * @param y row from the top
     * @param into one element a pixel
     */
    fun readRow(
        y: Int,
        into: IntArray,
    )
}

/**
 * A picture with transparency, laid over white as `edgefiqa.preprocess` does: each channel becomes
 * `round((c * a + 255 * (255 - a)) / 255)`.
 *
 * @property width in pixels
 * @property height in pixels
 * @param source gives the pixels
 */
class ArgbRows(
    override val width: Int,
    override val height: Int,
    private val source: ArgbSource,
) : PixelRows {
    private val row: IntArray

    init {
        requireSides(width, height)
        row = IntArray(width)
    }

    override fun readRow(
        y: Int,
        into: ByteArray,
    ) {
        source.readRow(y, row)
        var to = 0
        for (argb in row) {
            val alpha = argb ushr 24
            for (shift in SHIFTS) {
                val value = (argb ushr shift) and 0xFF
                into[to++] = (if (alpha == OPAQUE) value else overWhite(value, alpha)).toByte()
            }
        }
    }

    private companion object {
        const val OPAQUE = 255
        val SHIFTS = intArrayOf(16, 8, 0)

        /** Pillow's rounded division by 255, exact for all products of two bytes. */
        fun overWhite(
            value: Int,
            alpha: Int,
        ): Int {
            val sum = value * alpha + 255 * (255 - alpha) + 128
            return ((sum shr 8) + sum) shr 8
        }
    }
}

private fun requireSides(
    width: Int,
    height: Int,
) {
    if (width < 1 || height < 1) throw ScorerException("the picture has no pixels", "${width}x$height")
}
