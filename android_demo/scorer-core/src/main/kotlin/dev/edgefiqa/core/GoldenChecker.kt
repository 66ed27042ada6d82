package dev.edgefiqa.core

import java.io.IOException
import kotlin.math.abs

/** Where a golden check starts and ends, so that a device that disagrees knows where. */
enum class GoldenLevel(
    /** The level's name in reports. */
    val id: String,
) {
    /** Decoding and preprocessing give the recorded tensor. */
    PHOTO_TO_TENSOR("photo_to_tensor"),

    /** The model gives the recorded score for the recorded tensor. */
    TENSOR_TO_SCORE("tensor_to_score"),

    /** The whole way from the photograph to the score; lossless photographs only. */
    PHOTO_TO_SCORE("photo_to_score"),
}

/**
 * Outcome of one check.
 *
 * @property case name of the golden case
 * @property difference largest |pixel - expected| in 1/255 steps, or |score - expected|; null if
 *   nothing could be computed
 * @property allowed what was allowed, in the same unit
 * @property fault why it failed, or an empty text
 */
data class GoldenCheck(
    val case: String,
    val level: GoldenLevel,
    val difference: Double?,
    val allowed: Double,
    val fault: String,
) {
    /** Whether the check passed. */
    val passed: Boolean get() = fault.isEmpty()
}

/**
 * Checks a device against golden vectors at the levels of [GoldenLevel].
 *
 * @param goldens what is expected
 * @param files the goldens directory
 * @param decoder the platform's photo decoder
 */
class GoldenChecker(
    private val goldens: Goldens,
    private val files: FileSource,
    private val decoder: PhotoDecoder,
) {
    private val preprocessor = Preprocessor(goldens.size)

    /**
     * Runs every check.
     *
     * @param precision precision of the model, a key of the golden tolerances
     * @param score gives the score of a uint8 NHWC tensor of `size * size * 3` bytes
     */
    fun check(
        precision: String,
        score: (ByteArray) -> Float,
    ): List<GoldenCheck> = goldens.cases.flatMap { checkCase(it, goldens.toleranceOf(precision), score) }

    /** Returns the recorded tensor of a case, verified by its hash. */
    fun tensorOf(case: GoldenCase): ByteArray {
        val picture = decoder.decode(files.read(case.tensor))
        if (picture.width != goldens.size || picture.height != goldens.size) {
            throw ScorerException("the golden tensor has another size", "${picture.width}x${picture.height}")
        }
        val stride = 3 * picture.width
        val tensor = ByteArray(stride * picture.height)
        val row = ByteArray(stride)
        for (y in 0 until picture.height) {
            picture.readRow(y, row)
            row.copyInto(tensor, y * stride)
        }
        requireHash(Hashing.sha256(tensor), case.tensorSha256, case.tensor)
        return tensor
    }

    private fun checkCase(
        case: GoldenCase,
        tolerance: Double,
        score: (ByteArray) -> Float,
    ): List<GoldenCheck> {
        val lossless = case.tensorTolerance == 0
        val made = attempt { preprocess(case) }
        val expected = attempt { tensorOf(case) }
        return buildList {
            add(checkTensor(case, made, expected))
            add(checkScore(case, GoldenLevel.TENSOR_TO_SCORE, expected, tolerance, score))
            if (lossless) add(checkScore(case, GoldenLevel.PHOTO_TO_SCORE, made, tolerance, score))
        }
    }

    private fun preprocess(case: GoldenCase): ByteArray {
        val content = files.read(case.photo)
        requireHash(Hashing.sha256(content), case.photoSha256, case.photo)
        return preprocessor.toTensor(decoder.decode(content))
    }

    private fun checkTensor(
        case: GoldenCase,
        made: Result<ByteArray>,
        expected: Result<ByteArray>,
    ): GoldenCheck {
        val result = combine(made, expected) { a, b -> a.indices.maxOf { abs(unsigned(a[it]) - unsigned(b[it])) } }
        val worst = result.getOrNull()
        val fault =
            when {
                worst == null -> describe(result)
                worst > case.tensorTolerance -> "pixels differ by up to $worst, allowed ${case.tensorTolerance}"
                else -> ""
            }
        val level = GoldenLevel.PHOTO_TO_TENSOR
        return GoldenCheck(case.name, level, worst?.toDouble(), case.tensorTolerance.toDouble(), fault)
    }

    private fun checkScore(
        case: GoldenCase,
        level: GoldenLevel,
        tensor: Result<ByteArray>,
        tolerance: Double,
        score: (ByteArray) -> Float,
    ): GoldenCheck {
        val allowed = Goldens.allowedError(tolerance, case.score)
        val result = tensor.fold({ attempt { score(it).toDouble() } }, { Result.failure(it) })
        val found = result.getOrNull()
        val difference = found?.let { abs(it - case.score) }?.takeIf { it.isFinite() }
        val fault =
            when {
                found == null -> describe(result)
                difference == null || difference > allowed -> "score is $found, expected ${case.score}"
                else -> ""
            }
        return GoldenCheck(case.name, level, difference, allowed, fault)
    }

    private fun requireHash(
        found: String,
        expected: String,
        name: String,
    ) {
        if (found != expected) {
            throw ScorerException("$name has sha256 ${found.take(16)}..., recorded ${expected.take(16)}...")
        }
    }

    private fun unsigned(value: Byte): Int = value.toInt() and 0xFF

    private fun describe(result: Result<*>): String = result.exceptionOrNull()?.message ?: "it failed without a reason"

    /** A runtime, a decoder or a file may fail one case; the others are still checked. */
    @Suppress("TooGenericExceptionCaught")
    private fun <T> attempt(action: () -> T): Result<T> =
        try {
            Result.success(action())
        } catch (error: RuntimeException) {
            Result.failure(error)
        } catch (error: IOException) {
            Result.failure(error)
        }

    private fun <T> combine(
        first: Result<ByteArray>,
        second: Result<ByteArray>,
        action: (ByteArray, ByteArray) -> T,
    ): Result<T> = first.fold({ a -> second.map { b -> action(a, b) } }, { Result.failure(it) })
}
