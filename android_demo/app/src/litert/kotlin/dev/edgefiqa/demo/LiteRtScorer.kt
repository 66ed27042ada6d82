package dev.edgefiqa.demo

import dev.edgefiqa.core.RuntimeId
import dev.edgefiqa.core.ScorerException
import dev.edgefiqa.core.ScorerFactory
import dev.edgefiqa.core.TensorScorer
import dev.edgefiqa.core.checkInput
import dev.edgefiqa.core.checkTensor
import dev.edgefiqa.core.closingOnFailure
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Returns the runtime of this flavour. */
fun scorerFactory(): ScorerFactory = LiteRtFactory

private object LiteRtFactory : ScorerFactory {
    override val runtime = RuntimeId.LITERT
    override val runtimeVersion: String = BuildConfig.RUNTIME_VERSION

    override fun open(
        model: File,
        threads: Int,
    ): TensorScorer {
        val interpreter = translated { Interpreter(model, Interpreter.Options().setNumThreads(threads)) }
        return closingOnFailure(interpreter::close) { LiteRtScorer(model, interpreter) }
    }
}

/** A scorer in LiteRT's interpreter, on the processor through XNNPACK. */
private class LiteRtScorer(
    model: File,
    private val interpreter: Interpreter,
) : TensorScorer {
    override val size: Int
    private val input: ByteBuffer
    private val output = ByteBuffer.allocateDirect(Float.SIZE_BYTES).order(ByteOrder.nativeOrder())

    init {
        val tensor = interpreter.getInputTensor(0)
        size = checkInput(model, tensor.shape().map(Int::toLong), tensor.dataType() == DataType.UINT8)
        input = ByteBuffer.allocateDirect(3 * size * size)
    }

    override fun score(tensor: ByteArray): Float {
        checkTensor(tensor, size)
        input.clear()
        input.put(tensor).rewind()
        output.clear()
        translated { interpreter.run(input, output) }
        return output.getFloat(0)
    }

    override fun close() = interpreter.close()
}

private inline fun <T> translated(action: () -> T): T =
    try {
        action()
    } catch (error: IllegalArgumentException) {
        throw ScorerException("LiteRT refused the model (${error.message})", cause = error)
    } catch (error: IllegalStateException) {
        throw ScorerException("LiteRT failed (${error.message})", cause = error)
    }
