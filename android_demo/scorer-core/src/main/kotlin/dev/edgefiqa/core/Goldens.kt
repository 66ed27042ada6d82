package dev.edgefiqa.core

import kotlin.math.abs

/** Gives the bytes of a file of the goldens directory by its name. */
fun interface FileSource {
    /**
     * Reads a whole file.
     *
     * @throws java.io.IOException if there is no such file
     */
    fun read(name: String): ByteArray
}

/** Decodes a photograph's bytes to an upright picture. */
fun interface PhotoDecoder {
    /** Decodes [content], applying the EXIF orientation and ignoring embedded colour profiles. */
    fun decode(content: ByteArray): PixelRows
}

/**
 * One photograph and what must come of it.
 *
 * @property name short name
 * @property photo file in the goldens directory
 * @property photoSha256 of that file
 * @property tensor PNG in the goldens directory: the preprocessed square, losslessly
 * @property tensorSha256 of the tensor's raw bytes
 * @property tensorTolerance largest allowed difference of a pixel value, 0..255
 * @property score the torch model's score of the tensor
 */
data class GoldenCase(
    val name: String,
    val photo: String,
    val photoSha256: String,
    val tensor: String,
    val tensorSha256: String,
    val tensorTolerance: Int,
    val score: Double,
)

/**
 * The golden vectors that `edgefiqa convert` writes beside the exported files.
 *
 * @property size input side in pixels
 * @property parentSha256 of the weights whose scores these are
 * @property reference what computed the scores
 * @property tolerances allowed |score - expected| by precision, see [allowedError]
 * @property cases the photographs
 */
data class Goldens(
    val size: Int,
    val parentSha256: String,
    val reference: String,
    val tolerances: Map<String, Double>,
    val cases: List<GoldenCase>,
) {
    /** Tolerance of a precision; one that the file does not know is allowed no error at all. */
    fun toleranceOf(precision: String): Double = tolerances[precision] ?: 0.0

    companion object {
        /** Name of the file in the goldens directory. */
        const val FILE_NAME = "goldens.json"

        private const val SCHEMA_VERSION = 1L

        /** Largest allowed |score - expected|: `tolerance * max(1, |expected|)`. */
        fun allowedError(
            tolerance: Double,
            expected: Double,
        ): Double = tolerance * maxOf(1.0, abs(expected))

        /**
         * Reads `goldens.json`.
         *
         * @throws ScorerException if it is not of this layout
         */
        fun parse(text: String): Goldens {
            val fields = Fields(Json.parse(text), "goldens")
            fields.long("schema_version", SCHEMA_VERSION..SCHEMA_VERSION)
            val tolerances = fields.fields("tolerances", allowOthers = true)
            return Goldens(
                size = fields.int("size", Preprocessor.MIN_SIZE..Preprocessor.MAX_SIZE),
                parentSha256 = fields.string("parent_sha256"),
                reference = fields.string("reference"),
                tolerances = tolerances.names.associateWith(tolerances::double),
                cases = fields.array("cases").mapIndexed { index, case -> readCase(case, "goldens.cases[$index]") },
            ).also { fields.finish() }
        }

        private fun readCase(
            value: Json,
            path: String,
        ): GoldenCase {
            val fields = Fields(value, path)
            return GoldenCase(
                name = fields.string("name"),
                photo = fields.string("photo"),
                photoSha256 = fields.sha256("photo_sha256"),
                tensor = fields.string("tensor"),
                tensorSha256 = fields.sha256("tensor_sha256"),
                tensorTolerance = fields.int("tensor_tolerance", 0..255),
                score = fields.double("score"),
            ).also { fields.finish() }
        }
    }
}
