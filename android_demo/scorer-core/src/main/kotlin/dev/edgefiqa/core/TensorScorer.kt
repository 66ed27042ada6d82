package dev.edgefiqa.core

import java.io.File

/** A model opened by one runtime: the one interface that every runner implements. */
interface TensorScorer : AutoCloseable {
    /** Side S of the input in pixels. */
    val size: Int

    /**
     * Scores one picture.
     *
     * @param tensor `size * size * 3` unsigned bytes, NHWC, RGB, 0..255
     * @return the score, on the scale of the training labels, not clipped
     * @throws ScorerException if the runtime fails
     */
    fun score(tensor: ByteArray): Float
}

/** Opens models with one runtime. */
interface ScorerFactory {
    /** The runtime. */
    val runtime: RuntimeId

    /** Version of the runtime's package. */
    val runtimeVersion: String

    /**
     * Opens a model file.
     *
     * @param model the file
     * @param threads processor threads to compute with
     * @throws ScorerException if the file is damaged or is not a scorer
     */
    fun open(
        model: File,
        threads: Int,
    ): TensorScorer
}

/** A runtime that models are executed with. */
enum class RuntimeId(
    /** The runtime's name in jobs, reports and bundles. */
    val id: String,
    /** Ending of its model files. */
    val suffix: String,
) {
    /** Google's LiteRT, formerly TensorFlow Lite. */
    LITERT("litert", ".tflite"),

    /** PyTorch's ExecuTorch. */
    EXECUTORCH("executorch", ".pte"),

    /** Microsoft's ONNX Runtime. */
    ONNXRUNTIME("onnxruntime", ".onnx"),
    ;

    companion object {
        /** Names of all runtimes. */
        val ids: List<String> = entries.map { it.id }

        /** Finds a runtime by its [id]. */
        fun of(id: String): RuntimeId =
            entries.find { it.id == id } ?: throw ScorerException("there is no such runtime", id, ids.joinToString())
    }
}

/**
 * Checks a model's signature against the scorer contract.
 *
 * @param shape the input's shape as the runtime says it
 * @param isUint8 whether the input's element type is uint8
 * @return the input's side in pixels
 * @throws ScorerException if the input is not uint8 `[1, S, S, 3]`
 */
fun checkInput(
    model: File,
    shape: List<Long>,
    isUint8: Boolean,
): Int {
    val matches = shape.size == 4 && shape[0] == 1L && shape[1] == shape[2] && shape[3] == 3L
    if (!matches || !isUint8 || shape[1] !in Preprocessor.MIN_SIZE..Preprocessor.MAX_SIZE) {
        throw ScorerException(
            "${model.name} is not an edgefiqa scorer",
            "input $shape, ${if (isUint8) "uint8" else "not uint8"}",
            "uint8 [1, S, S, 3]",
            "export it with edgefiqa convert",
        )
    }
    return shape[1].toInt()
}

/** Refuses a tensor whose length does not fit an input of [size] pixels. */
fun checkTensor(
    tensor: ByteArray,
    size: Int,
) {
    if (tensor.size != size * size * 3) {
        throw ScorerException("the tensor has another size than the model", tensor.size, "${size * size * 3} bytes")
    }
}

/** Runs [action]; if it fails, calls [close] before the failure goes on, so that no native memory is lost. */
inline fun <T> closingOnFailure(
    close: () -> Unit,
    action: () -> T,
): T {
    var done = false
    try {
        return action().also { done = true }
    } finally {
        if (!done) close()
    }
}
