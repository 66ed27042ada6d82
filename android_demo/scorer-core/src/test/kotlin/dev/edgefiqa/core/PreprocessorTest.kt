package dev.edgefiqa.core

import org.junit.Assume.assumeNotNull
import org.junit.Test
import java.io.File
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

class PreprocessorTest {
    /** Hashes that Pillow 13 gave; the last two are filtered down first. `android_demo/check/vectors.py --noise` prints them. */
    @Test
    fun `noise of fixed sizes gives the tensors that Pillow gave`() {
        for ((shape, expected) in NOISE) {
            val (width, height, size) = shape
            val tensor = Preprocessor(size).toTensor(noise(width, height, seed = width * 7 + height))
            assertEquals(expected, Hashing.sha256(tensor), "${width}x$height to $size")
        }
    }

    @Test
    fun `every vector that Pillow made here is met bit for bit`() {
        val folder = TestFiles.vectors
        assumeNotNull(folder)
        val cases = Fields(Json.parse(File(folder, "vectors.json").readText()), "vectors").array("cases")
        val wrong =
            cases.map { Fields(it, "case") }.filter { case ->
                val pixels = File(folder, case.string("pixels")).readBytes()
                val picture = RgbImage(case.int("width", SIDES), case.int("height", SIDES), pixels)
                val tensor = Preprocessor(case.int("size", SIDES)).toTensor(picture)
                Hashing.sha256(tensor) != case.string("tensor_sha256")
            }
        assertEquals(emptyList(), wrong.map { it.string("name") })
        assertTrue(cases.size >= 200, "only ${cases.size} vectors")
        println("resampler: ${cases.size} vectors equal Pillow's")
    }

    @Test
    fun `a square of the right size is not changed`() {
        val picture = noise(64, 64, 1)
        assertContentEquals(picture.pixels, Preprocessor(64).toTensor(picture))
    }

    @Test
    fun `the window of a result is that part of the whole result`() {
        val picture = noise(97, 61, 2)
        val whole = Resampler.resizeWindow(picture, 40, 90)
        val window = Resampler.resizeWindow(picture, 40, 90, 7, 11, 20, 30)
        for (y in 0 until 30) {
            val from = 3 * ((y + 11) * 40 + 7)
            val expected = whole.pixels.copyOfRange(from, from + 60)
            assertContentEquals(expected, window.pixels.copyOfRange(60 * y, 60 * y + 60))
        }
    }

    @Test
    fun `the long side is truncated`() {
        assertEquals(288 to 431, Preprocessor(288).resizedShape(333, 499))
        assertEquals(431 to 288, Preprocessor(288).resizedShape(499, 333))
        assertEquals(224 to 224, Preprocessor(224).resizedShape(5, 5))
    }

    @Test
    fun `unusable sizes and slivers are refused`() {
        assertFailsWith<ScorerException> { Preprocessor(15) }
        assertFailsWith<ScorerException> { Preprocessor(4097) }
        val sliver =
            object : PixelRows {
                override val width = 1
                override val height = 3_000_000

                override fun readRow(
                    y: Int,
                    into: ByteArray,
                ) = error("not read")
            }
        val error = assertFailsWith<ScorerException> { Preprocessor(288).toTensor(sliver) }
        assertTrue("too narrow" in error.what)
    }

    @Test
    fun `transparent pixels are laid over white`() {
        val argb = longArrayOf(0x000A141E, 0xFF0A141E, 0x7F6400FF).map { it.toInt() }.toIntArray()
        val row = ByteArray(9)
        ArgbRows(3, 1) { _, into -> argb.copyInto(into) }.readRow(0, row)
        val expected = listOf(255, 255, 255, 10, 20, 30, 178, 128, 255)
        assertEquals(expected, row.map { it.toInt() and 0xFF })
    }

    @Test
    fun `an array that does not fit and empty pictures are refused`() {
        assertFailsWith<ScorerException> { ArgbRows(3, 0) { _, _ -> } }
        assertFailsWith<ScorerException> { RgbImage(2, 2, ByteArray(11)) }
        assertFailsWith<ScorerException> { RgbImage(0, 2, ByteArray(0)) }
    }

    private companion object {
        val SIDES = 1..100_000
        val NOISE =
            mapOf(
                Triple(64, 48, 32) to
                    "26ccc3296b40a36ff72d77f4da47a396e68981f84b73effd27f91c5f142b3f9b",
                Triple(48, 64, 32) to
                    "a358dc8705390b35cc0881295e29b5475f07c30bbf74f209609eac9ce7b0a7a5",
                Triple(333, 501, 64) to
                    "a7249e329f4adc71d39f93a6154942225e123514b58319b970ee69d32d0daa81",
                Triple(97, 101, 112) to
                    "0f03b40045b91fbd906af06f75b1aab2883762bec553fde95093dc87aa9f7df0",
                Triple(1, 40, 16) to
                    "c7eba87b6e5fe0431ab86e2276d887e1cba3d9daf289a65e6b56a866c8a56ea5",
                Triple(40, 1, 16) to
                    "2869f443da603fdba6610c25284cda0742d48a6f110438e91d460c3be16e92a5",
                Triple(200, 300, 200) to
                    "7c38c04cf6f91ae5f4101690107b74b471b40eb10041b46f8e4b387454d65b9e",
                Triple(123, 17, 33) to
                    "82a3d9255935d737ba8c7743b3870995d088a78be6a116d810b59cc2c10fb790",
                Triple(31, 31, 160) to
                    "0ffa685973a06006ee0599c6b9f303d14d941f90f93e4da6b36007a91a382eea",
                Triple(100, 300, 50) to
                    "1e6c0d57125694013258c15f8693ededb02c7ef98cf92b4094e93e5d57aca900",
                Triple(40, 410, 16) to
                    "57cd72501cc519f2ca8941fa3a76faaeac7c8c91ee906ddbfb77816c636a1a4f",
            )
    }
}
