"""Makes the files beside it with PyAV 18 and soundfile 0.14: half a second of two tones at 16 kHz, as other
programs store it. The tests make the same tones and compare."""

import av
import numpy
import soundfile

RATE, FRAMES = 16000, 8000
time = numpy.arange(FRAMES) / RATE
tones = 0.4 * numpy.sin(2 * numpy.pi * 440 * time) + 0.2 * numpy.sin(2 * numpy.pi * 880 * time)
both = numpy.stack([tones, 0.5 * tones]).astype(numpy.float32)


def make(path, container, codec, channels, bit_rate, **options):
    layout = "stereo" if channels == 2 else "mono"
    with av.open(path, "w", format=container, container_options=options) as out:
        stream = out.add_stream(codec, rate=RATE, layout=layout)
        stream.bit_rate = bit_rate
        stream.codec_context.open()
        size = stream.codec_context.frame_size
        for at in range(0, FRAMES, size):
            planes = both[:channels, at : at + size].copy()
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = RATE, at
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


make("mono.mp3", "mp3", "libmp3lame", 1, 48000)
make("stereo.mp3", "mp3", "libmp3lame", 2, 64000)
make("mono.aac", "adts", "aac", 1, 48000)
make("stereo.m4a", "ipod", "aac", 2, 64000)
make("front.m4a", "ipod", "aac", 1, 48000, movflags="faststart")
soundfile.write("mono.ogg", both[0], RATE, format="OGG", subtype="VORBIS")
soundfile.write("stereo.ogg", both.T, RATE, format="OGG", subtype="VORBIS")
soundfile.write("stereo.opus", both.T, RATE, format="OGG", subtype="OPUS")
