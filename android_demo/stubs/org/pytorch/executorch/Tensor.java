// Signatures that this project calls, from https://github.com/pytorch/executorch, extension/android/executorch_android, Tensor
package org.pytorch.executorch;

import java.nio.ByteBuffer;

public abstract class Tensor {
    public static Tensor fromBlobUnsigned(ByteBuffer data, long[] shape) { throw new RuntimeException("Stub!"); }
    public float[] getDataAsFloatArray() { throw new RuntimeException("Stub!"); }
}
