package dev.edgefiqa.core

import java.awt.image.IndexColorModel
import java.io.ByteArrayInputStream
import java.io.File
import javax.imageio.ImageIO

/** Files that the tests share. Each is named by a system property and may be absent. */
internal object TestFiles {
    /** Vectors made by Pillow: `edgefiqa.vectors`. */
    val vectors: File? = folder("edgefiqa.vectors")

    /** What `edgefiqa convert` wrote into `goldens/`: `edgefiqa.goldens`. */
    val goldens: File? = folder("edgefiqa.goldens")

    /** The protocol's schema: `edgefiqa.schema`. */
    val schema: File? = System.getProperty("edgefiqa.schema")?.let(::File)?.takeIf { it.isFile }

    /** Jobs that the host side wrote: `edgefiqa.jobs`. */
    val jobs: File? = folder("edgefiqa.jobs")

    /** Where reports are written for the Python side: `edgefiqa.reports`. */
    val reports: File? = folder("edgefiqa.reports")

    private fun folder(property: String) = System.getProperty(property)?.let(::File)?.takeIf { it.isDirectory }
}

/** A picture of the fixed pseudo-random sequence that `android_demo/check/vectors.py` makes too. */
internal fun noise(
    width: Int,
    height: Int,
    seed: Int,
): RgbImage {
    var state = seed
    val pixels =
        ByteArray(3 * width * height) {
            state = state * 1_103_515_245 + 12_345
            (state ushr 16).toByte()
        }
    return RgbImage(width, height, pixels)
}

/**
 * Decodes PNG on the JVM, transparency over white; JPEG too, but without its EXIF orientation.
 *
 * Grey pictures are read from their raster: `getRGB` would take them through a linear grey space.
 */
internal val imageIoDecoder =
    PhotoDecoder { content ->
        val image = ImageIO.read(ByteArrayInputStream(content)) ?: throw ScorerException("not an image")
        val isGrey = image.raster.numBands == 1 && image.colorModel !is IndexColorModel
        ArgbRows(image.width, image.height) { y, into ->
            if (isGrey) {
                image.raster.getPixels(0, y, image.width, 1, into)
                for (x in into.indices) into[x] = into[x] * 0x010101 or OPAQUE
            } else {
                image.getRGB(0, y, image.width, 1, into, 0, image.width)
            }
        }
    }

private const val OPAQUE = 0xFF shl 24
