package dev.edgefiqa.core

/**
 * One model of a [Bundle].
 *
 * @property file name in the bundle
 * @property runtime what executes it
 * @property precision "fp32", "fp16" or a quantisation recipe's name
 * @property sha256 of the file
 * @property sizeBytes its size
 */
data class BundledModel(
    val file: String,
    val runtime: RuntimeId,
    val precision: String,
    val sha256: String,
    val sizeBytes: Long,
)

/**
 * What `edgefiqa bundle --android` lays into the app's assets: `bundle.json`.
 *
 * @property name name of the weights
 * @property size input side in pixels
 * @property scoreRange lowest and highest training label
 * @property goldensSha256 of `goldens/goldens.json`
 * @property models the files, in the order of the export
 */
data class Bundle(
    val name: String,
    val size: Int,
    val scoreRange: ClosedFloatingPointRange<Double>,
    val goldensSha256: String,
    val models: List<BundledModel>,
) {
    companion object {
        /** Name of the file in the bundle. */
        const val FILE_NAME = "bundle.json"

        /**
         * Reads `bundle.json`.
         *
         * @throws ScorerException if it is not of this layout
         */
        fun parse(text: String): Bundle {
            val fields = Fields(Json.parse(text), "bundle")
            fields.long("schema_version", 1L..1L)
            val range = fields.array("score_range").map { (it as? Json.Num)?.text?.toDouble() }
            val (low, high) = range.filterNotNull().takeIf { range.size == 2 && it.size == 2 } ?: listOf(0.0, 0.0)
            if (low >= high) throw ScorerException("bundle.score_range is not usable", range, "two rising numbers")
            return Bundle(
                name = fields.string("name"),
                size = fields.int("size", Preprocessor.MIN_SIZE..Preprocessor.MAX_SIZE),
                scoreRange = low..high,
                goldensSha256 = fields.sha256("goldens_sha256"),
                models =
                    fields.array("models").mapIndexed {
                        index,
                        model,
                        ->
                        readModel(model, "bundle.models[$index]")
                    },
            ).also { fields.finish() }
        }

        private fun readModel(
            value: Json,
            path: String,
        ): BundledModel {
            val fields = Fields(value, path)
            return BundledModel(
                file = fields.string("file"),
                runtime = RuntimeId.of(fields.choice("runtime", RuntimeId.ids)),
                precision = fields.string("precision"),
                sha256 = fields.sha256("sha256"),
                sizeBytes = fields.long("size_bytes", 1L..Long.MAX_VALUE),
            ).also { fields.finish() }
        }
    }
}
