//! The loops that somebody would write by hand: each record of a column through the codec's crate.

use std::io::Cursor;

use anabranch_pipelines::record::media;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float32Type;

use crate::records::{RATE, SIDE};

/// One record through a crate.
type Call = fn(&[u8]) -> Vec<u8>;

/// A codec's crate.
pub(crate) enum Direct {
    /// Of pictures and sounds.
    Media { name: &'static str, encode: Call, decode: Call },
    /// zstd.
    Text,
    /// pco.
    Numbers,
}

/// All codecs that encode.
pub(crate) fn all() -> Vec<Direct> {
    let media = |name, encode, decode| Direct::Media { name, encode, decode };
    vec![
        media("jpeg", encode_jpeg, decode_jpeg),
        media("png", encode_png, decode_png),
        media("webp", encode_webp, decode_webp),
        media("qoi", encode_qoi, decode_qoi),
        media("wav", encode_wav, decode_wav),
        media("flac", encode_flac, decode_flac),
        media("opus", encode_opus, decode_opus),
        Direct::Text,
        Direct::Numbers,
    ]
}

impl Direct {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Media { name, .. } => name,
            Self::Text => "zstd",
            Self::Numbers => "pco",
        }
    }

    pub(crate) fn encode(&self, batch: &RecordBatch) -> Vec<Vec<u8>> {
        match self {
            Self::Media { encode, .. } => each(batch, *encode),
            Self::Text => {
                let mut compressor = zstd::bulk::Compressor::new(9).unwrap();
                let texts = batch.column(0).as_string::<i32>();
                texts
                    .iter()
                    .map(|text| compressor.compress(text.unwrap().as_bytes()).unwrap())
                    .collect()
            }
            Self::Numbers => {
                let lists = batch.column(0).as_list::<i32>();
                let encode = |list: arrow::array::ArrayRef| {
                    let list = list.as_primitive::<Float32Type>();
                    let config = pco::ChunkConfig::default();
                    pco::standalone::simple_compress_into(list.values(), &config, Vec::new())
                        .unwrap()
                };
                lists.iter().map(|list| encode(list.unwrap())).collect()
            }
        }
    }

    pub(crate) fn decode(&self, batch: &RecordBatch) -> Vec<Vec<u8>> {
        match self {
            Self::Media { decode, .. } => each(batch, *decode),
            Self::Text => {
                let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
                let column = media::of(batch, "x").unwrap();
                let decode = |row| {
                    let frame = media::bytes(column, row).unwrap();
                    let size = zstd::bulk::Decompressor::upper_bound(frame).unwrap();
                    let text = decompressor.decompress(frame, size).unwrap();
                    // A text is one only if it is UTF-8.
                    String::from_utf8(text).unwrap().into_bytes()
                };
                (0..batch.num_rows()).map(decode).collect()
            }
            Self::Numbers => {
                let column = media::of(batch, "x").unwrap();
                let decode = |row| {
                    pco::standalone::simple_decompress::<f32>(media::bytes(column, row).unwrap())
                };
                // All of a batch are kept, as those of other codecs are.
                let numbers: Vec<_> = (0..batch.num_rows()).map(decode).collect();
                std::hint::black_box(numbers);
                Vec::new()
            }
        }
    }
}

fn each(batch: &RecordBatch, call: Call) -> Vec<Vec<u8>> {
    let column = media::of(batch, "x").unwrap();
    (0..batch.num_rows()).map(|row| call(media::bytes(column, row).unwrap())).collect()
}

fn encode_jpeg(pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 75);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
    encoder.encode(pixels, SIDE as u16, SIDE as u16, jpeg_encoder::ColorType::Rgb).unwrap();
    bytes
}

fn decode_jpeg(bytes: &[u8]) -> Vec<u8> {
    zune_jpeg::JpegDecoder::new(zune_core::bytestream::ZCursor::new(bytes)).decode().unwrap()
}

fn encode_png(pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, SIDE, SIDE);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(pixels).unwrap();
    writer.finish().unwrap();
    bytes
}

fn decode_png(bytes: &[u8]) -> Vec<u8> {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    reader.finish().unwrap();
    pixels
}

fn encode_webp(pixels: &[u8]) -> Vec<u8> {
    webp::Encoder::from_rgb(pixels, SIDE, SIDE).encode(75.0).to_vec()
}

fn decode_webp(bytes: &[u8]) -> Vec<u8> {
    webp::Decoder::new(bytes).decode().unwrap().to_vec()
}

fn encode_qoi(pixels: &[u8]) -> Vec<u8> {
    qoi::encode_to_vec(pixels, SIDE, SIDE).unwrap()
}

fn decode_qoi(bytes: &[u8]) -> Vec<u8> {
    qoi::decode_to_vec(bytes).unwrap().1
}

fn integers(samples: &[u8]) -> impl Iterator<Item = i16> {
    samples.as_chunks::<2>().0.iter().map(|bytes| i16::from_le_bytes(*bytes))
}

fn encode_wav(samples: &[u8]) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    integers(samples).for_each(|sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
    file.into_inner()
}

fn decode_wav(bytes: &[u8]) -> Vec<u8> {
    let mut reader = hound::WavReader::new(bytes).unwrap();
    reader.samples::<i16>().flat_map(|sample| sample.unwrap().to_le_bytes()).collect()
}

fn encode_flac(samples: &[u8]) -> Vec<u8> {
    use flac_codec::encode::{FlacSampleWriter, Options};
    let integers: Vec<i32> = integers(samples).map(i32::from).collect();
    let mut file = Cursor::new(Vec::new());
    let options = Options::default().no_padding().no_seektable();
    let length = Some(integers.len() as u64);
    let mut writer = FlacSampleWriter::new(&mut file, options, RATE, 16, 1, length).unwrap();
    writer.write(&integers).unwrap();
    writer.finalize().unwrap();
    file.into_inner()
}

fn decode_flac(bytes: &[u8]) -> Vec<u8> {
    let mut reader = flac_codec::decode::FlacSampleReader::new(Cursor::new(bytes)).unwrap();
    let mut integers = Vec::new();
    reader.read_to_end(&mut integers).unwrap();
    integers.into_iter().flat_map(|sample| (sample as i16).to_le_bytes()).collect()
}

fn encode_opus(samples: &[u8]) -> Vec<u8> {
    use ogg::{PacketWriteEndInfo as End, PacketWriter};
    use ropus::{Application, Bitrate, Channels, Encoder};
    let frame = RATE as usize / 50;
    let scale = u64::from(48_000 / RATE);
    let mut encoder = Encoder::builder(RATE, Channels::Mono, Application::Audio)
        .bitrate(Bitrate::Auto)
        .build()
        .unwrap();
    let delay = u64::from(encoder.lookahead());
    let mut floats: Vec<f32> =
        integers(samples).map(|sample| f32::from(sample) / 32_768.0).collect();
    let length = floats.len() as u64;
    floats.resize((length + delay).div_ceil(frame as u64) as usize * frame, 0.0);
    let mut bytes = Vec::new();
    let mut file = PacketWriter::new(&mut bytes);
    let mut head = b"OpusHead\x01\x01".to_vec();
    head.extend(((delay * scale) as u16).to_le_bytes());
    head.extend(RATE.to_le_bytes());
    head.extend([0; 3]);
    file.write_packet(head, 1, End::EndPage, 0).unwrap();
    file.write_packet(b"OpusTags\x09\0\0\0anabranch\0\0\0\0".to_vec(), 1, End::EndPage, 0).unwrap();
    let mut packet = vec![0; 4000];
    let last = floats.len() / frame - 1;
    for (at, chunk) in floats.chunks(frame).enumerate() {
        let size = encoder.encode_float(chunk, &mut packet).unwrap();
        let (end, position) = match at {
            at if at == last => (End::EndStream, length + delay),
            at if at % 50 == 49 => (End::EndPage, ((at + 1) * frame) as u64),
            at => (End::NormalPacket, ((at + 1) * frame) as u64),
        };
        file.write_packet(packet[..size].to_vec(), 1, end, position * scale).unwrap();
    }
    bytes
}

fn decode_opus(bytes: &[u8]) -> Vec<u8> {
    use ropus::{Channels, DecodeMode, Decoder};
    let mut reader = ogg::PacketReader::new(Cursor::new(bytes));
    let head = reader.read_packet_expected().unwrap();
    reader.read_packet_expected().unwrap();
    let scale = 48_000 / RATE as usize;
    let skip = usize::from(u16::from_le_bytes([head.data[10], head.data[11]])) / scale;
    let mut decoder = Decoder::new(RATE, Channels::Mono).unwrap();
    let mut buffer = vec![0; decoder.max_frame_samples_per_channel()];
    let (mut samples, mut end) = (Vec::new(), 0);
    while let Some(packet) = reader.read_packet().unwrap() {
        let frames = decoder.decode(&packet.data, &mut buffer, DecodeMode::Normal).unwrap();
        samples.extend(buffer[..frames].iter().flat_map(|sample| sample.to_le_bytes()));
        end = packet.absgp_page() as usize / scale;
    }
    samples.truncate(end * 2);
    samples.drain(..skip * 2);
    samples
}
