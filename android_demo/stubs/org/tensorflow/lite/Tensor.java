// Signatures that this project calls, from https://ai.google.dev/edge/api/tflite/java/org/tensorflow/lite/Tensor
package org.tensorflow.lite;

public interface Tensor {
    DataType dataType();
    int[] shape();
}
