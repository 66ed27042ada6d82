import CoreGraphics
import CoreML
import CoreVideo
import CryptoKit
import Foundation

/// A fault that the caller can mend; the text says what was found and what is needed.
public struct ScorerError: Error, CustomStringConvertible {
    public let description: String
}

/// A face quality scorer in Core ML: a `.mlpackage` that `edgefiqa convert --to coreml` wrote.
///
/// The model takes an RGB image of `size` × `size` pixels, upright, preprocessed as `goldens/` shows:
/// short side resized with Pillow's antialiased bilinear filter, centre crop. Embedded colour profiles
/// are ignored. Its output is one number on the scale of the training labels, not clipped.
public final class FaceQualityScorer {
    /// Side of the input in pixels.
    public let size: Int

    private let model: MLModel

    /// Loads a package.
    ///
    /// - Parameters:
    ///   - package: The `.mlpackage`; a `.mlmodelc` that Xcode compiled is taken as it is.
    ///   - computeUnits: `.cpuOnly` gives the golden scores most closely.
    public init(package: URL, computeUnits: MLComputeUnits = .all) async throws {
        let compiled = package.pathExtension == "mlmodelc" ? package : try await MLModel.compileModel(at: package)
        let configuration = MLModelConfiguration()
        configuration.computeUnits = computeUnits
        model = try MLModel(contentsOf: compiled, configuration: configuration)
        guard let image = model.modelDescription.inputDescriptionsByName["image"]?.imageConstraint,
              image.pixelsWide == image.pixelsHigh,
              model.modelDescription.outputDescriptionsByName["score"] != nil
        else {
            throw ScorerError(description: "not an edgefiqa scorer: a square input 'image' and an output 'score' are needed")
        }
        size = image.pixelsWide
    }

    /// Scores a picture of `size` × `size` pixels in the format `kCVPixelFormatType_32BGRA`.
    public func score(_ pixels: CVPixelBuffer) throws -> Float {
        let input = try MLDictionaryFeatureProvider(dictionary: ["image": MLFeatureValue(pixelBuffer: pixels)])
        let output = try model.prediction(from: input)
        guard let score = output.featureValue(for: "score")?.multiArrayValue, score.count == 1 else {
            throw ScorerError(description: "the model gave no single score")
        }
        return score[0].floatValue
    }

    /// Scores a tensor: `size * size * 3` bytes, row by row, RGB interleaved.
    public func score(tensor: [UInt8]) throws -> Float {
        try score(Self.pixelBuffer(tensor: tensor, size: size))
    }

    /// Lays RGB bytes into a new pixel buffer without any colour conversion.
    static func pixelBuffer(tensor: [UInt8], size: Int) throws -> CVPixelBuffer {
        guard tensor.count == size * size * 3 else {
            throw ScorerError(description: "the tensor has \(tensor.count) bytes, \(size * size * 3) are needed")
        }
        var created: CVPixelBuffer?
        let status = CVPixelBufferCreate(nil, size, size, kCVPixelFormatType_32BGRA, nil, &created)
        guard status == kCVReturnSuccess, let buffer = created else {
            throw ScorerError(description: "no pixel buffer of \(size)×\(size) could be made (\(status))")
        }
        CVPixelBufferLockBaseAddress(buffer, [])
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        guard let base = CVPixelBufferGetBaseAddress(buffer)?.assumingMemoryBound(to: UInt8.self) else {
            throw ScorerError(description: "the pixel buffer has no memory")
        }
        let stride = CVPixelBufferGetBytesPerRow(buffer)
        for y in 0 ..< size {
            for x in 0 ..< size {
                let from = 3 * (y * size + x), to = y * stride + 4 * x
                base[to] = tensor[from + 2]
                base[to + 1] = tensor[from + 1]
                base[to + 2] = tensor[from]
                base[to + 3] = 255
            }
        }
        return buffer
    }
}

/// The golden vectors beside an export, checked from tensor to score.
public struct Goldens: Decodable {
    /// One photograph's tensor and the score that it must give.
    public struct Case: Decodable {
        public let name: String
        public let tensor: String
        public let tensorSha256: String
        public let score: Double
    }

    public let size: Int
    public let tolerances: [String: Double]
    public let cases: [Case]

    /// Reads `goldens.json` of a goldens folder.
    public static func load(from folder: URL) throws -> Goldens {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Goldens.self, from: Data(contentsOf: folder.appendingPathComponent("goldens.json")))
    }

    /// Checks a scorer; returns the faults, none if every case is met.
    ///
    /// - Parameters:
    ///   - precision: A key of `tolerances`, such as "fp16"; an unknown one is allowed no error.
    ///   - folder: The goldens folder.
    public func faults(of scorer: FaceQualityScorer, precision: String, folder: URL) throws -> [String] {
        guard scorer.size == size else {
            return ["the model takes \(scorer.size) pixels, the golden vectors are of \(size)"]
        }
        let tolerance = tolerances[precision] ?? 0
        return try cases.compactMap { item in
            let tensor = try Self.readTensor(folder.appendingPathComponent(item.tensor), size: size)
            let hash = SHA256.hash(data: tensor).map { String(format: "%02x", $0) }.joined()
            guard hash == item.tensorSha256 else { return "\(item.name): \(item.tensor) is another file" }
            let found = try Double(scorer.score(tensor: tensor))
            let allowed = tolerance * max(1, abs(item.score))
            return abs(found - item.score) <= allowed ? nil : "\(item.name): \(found), expected \(item.score)"
        }
    }

    /// Reads a PNG's stored values: the picture is drawn in its own colour space, so nothing is converted.
    static func readTensor(_ file: URL, size: Int) throws -> [UInt8] {
        guard let provider = CGDataProvider(url: file as CFURL),
              let image = CGImage(
                  pngDataProviderSource: provider, decode: nil, shouldInterpolate: false, intent: .defaultIntent
              ),
              image.width == size, image.height == size,
              let space = image.colorSpace, space.model == .rgb
        else {
            throw ScorerError(description: "\(file.lastPathComponent) is no RGB picture of \(size)×\(size)")
        }
        var rgba = [UInt8](repeating: 0, count: 4 * size * size)
        let drawn = rgba.withUnsafeMutableBytes { memory -> Bool in
            let context = CGContext(
                data: memory.baseAddress, width: size, height: size, bitsPerComponent: 8, bytesPerRow: 4 * size,
                space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue
            )
            context?.draw(image, in: CGRect(x: 0, y: 0, width: size, height: size))
            return context != nil
        }
        guard drawn else { throw ScorerError(description: "\(file.lastPathComponent) cannot be drawn") }
        return rgba.enumerated().compactMap { $0.offset % 4 == 3 ? nil : $0.element }
    }
}
