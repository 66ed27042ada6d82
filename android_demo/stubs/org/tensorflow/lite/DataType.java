// Signatures that this project calls, from https://ai.google.dev/edge/api/tflite/java/org/tensorflow/lite/DataType
package org.tensorflow.lite;

public enum DataType { FLOAT32, INT32, UINT8, INT64, STRING, BOOL, INT16, INT8 }
