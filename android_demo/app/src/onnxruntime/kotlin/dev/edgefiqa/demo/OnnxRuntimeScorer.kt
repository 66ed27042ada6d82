package dev.edgefiqa.demo

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import android.system.Os
import dev.edgefiqa.core.RuntimeId
import dev.edgefiqa.core.ScorerException
import dev.edgefiqa.core.ScorerFactory
import dev.edgefiqa.core.TensorScorer
import dev.edgefiqa.core.checkInput
import dev.edgefiqa.core.checkTensor
import dev.edgefiqa.core.closingOnFailure
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Returns the runtime of this flavour. */
fun scorerFactory(): ScorerFactory = OnnxRuntimeFactory

private object OnnxRuntimeFactory : ScorerFactory {
    override val runtime = RuntimeId.ONNXRUNTIME
    override val runtimeVersion: String = BuildConfig.RUNTIME_VERSION

    private val environment by lazy {
        // Both switches: the variable is read when the library loads, the call holds afterwards.
        Os.setenv("ORT_DISABLE_TELEMETRY", "1", true)
        translated { OrtEnvironment.getEnvironment().also { it.setTelemetry(false) } }
    }

    override fun open(
        model: File,
        threads: Int,
    ): TensorScorer =
        translated {
            OrtSession.SessionOptions().use { options ->
                options.setIntraOpNumThreads(threads)
                options.setInterOpNumThreads(1)
                // Spinning workers would warm the phone between two photographs.
                options.addConfigEntry("session.intra_op.allow_spinning", "0")
                val session = environment.createSession(model.path, options)
                closingOnFailure(session::close) { OnnxRuntimeScorer(model, environment, session) }
            }
        }
}

/** A scorer in ONNX Runtime, on its processor provider. */
private class OnnxRuntimeScorer(
    model: File,
    environment: OrtEnvironment,
    private val session: OrtSession,
) : TensorScorer {
    override val size: Int
    private val buffer: ByteBuffer
    private val input: OnnxTensor
    private val inputs: Map<String, OnnxTensor>

    init {
        val (name, node) = session.inputInfo.entries.single()
        val info = node.info as TensorInfo
        size = checkInput(model, info.shape.toList(), info.type == OnnxJavaType.UINT8)
        buffer = ByteBuffer.allocateDirect(3 * size * size).order(ByteOrder.nativeOrder())
        // The tensor lies over the buffer: filling the buffer changes what the session reads.
        input = OnnxTensor.createTensor(environment, buffer, info.shape, OnnxJavaType.UINT8)
        inputs = mapOf(name to input)
    }

    override fun score(tensor: ByteArray): Float {
        checkTensor(tensor, size)
        buffer.clear()
        buffer.put(tensor)
        return translated { session.run(inputs).use { (it[0] as OnnxTensor).floatBuffer.get(0) } }
    }

    override fun close() {
        input.close()
        session.close()
    }
}

private inline fun <T> translated(action: () -> T): T =
    try {
        action()
    } catch (error: OrtException) {
        throw ScorerException("ONNX Runtime failed (${error.message})", cause = error)
    }
