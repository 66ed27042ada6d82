package dev.edgefiqa.demo

import dev.edgefiqa.core.Fields
import dev.edgefiqa.core.Json
import dev.edgefiqa.core.Preprocessor
import dev.edgefiqa.core.RuntimeId
import dev.edgefiqa.core.ScorerException
import dev.edgefiqa.core.ScorerFactory
import dev.edgefiqa.core.TensorScorer
import dev.edgefiqa.core.checkTensor
import dev.edgefiqa.core.closingOnFailure
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Returns the runtime of this flavour. */
fun scorerFactory(): ScorerFactory = ExecuTorchFactory

private object ExecuTorchFactory : ScorerFactory {
    override val runtime = RuntimeId.EXECUTORCH
    override val runtimeVersion: String = BuildConfig.RUNTIME_VERSION

    override fun open(
        model: File,
        threads: Int,
    ): TensorScorer =
        translated {
            val module = Module.load(model.path, Module.LOAD_MODE_MMAP, threads)
            closingOnFailure(module::destroy) {
                module.loadMethod("forward")
                ExecuTorchScorer(module)
            }
        }
}

/**
 * A scorer in ExecuTorch, on the processor through XNNPACK.
 *
 * The program does not tell Java the shape of its input, so the size comes from the metadata that
 * `edgefiqa convert` compiled into it as the method `edgefiqa`.
 */
private class ExecuTorchScorer(
    private val module: Module,
) : TensorScorer {
    override val size: Int = readSize(module)
    private val input = ByteBuffer.allocateDirect(3 * size * size).order(ByteOrder.nativeOrder())
    private val shape = longArrayOf(1, size.toLong(), size.toLong(), 3)

    override fun score(tensor: ByteArray): Float {
        checkTensor(tensor, size)
        input.clear()
        input.put(tensor).rewind()
        val outputs = translated { module.forward(EValue.from(Tensor.fromBlobUnsigned(input, shape))) }
        val scores = outputs.singleOrNull()?.toTensor()?.dataAsFloatArray
        return scores?.singleOrNull() ?: throw ScorerException("the program gives no single score", scores?.size)
    }

    override fun close() = module.destroy()

    private fun readSize(module: Module): Int {
        val text = module.execute("edgefiqa").single().toStr()
        val metadata = Fields(Json.parse(text), "metadata", allowOthers = true)
        val contract = metadata.fields("contract", allowOthers = true)
        return contract.int("size", Preprocessor.MIN_SIZE..Preprocessor.MAX_SIZE)
    }
}

/** ExecuTorch's own exceptions share no base but RuntimeException; ours pass through. */
private inline fun <T> translated(action: () -> T): T =
    try {
        action()
    } catch (error: ScorerException) {
        throw error
    } catch (error: RuntimeException) {
        throw ScorerException("ExecuTorch failed (${error.message})", cause = error)
    }
