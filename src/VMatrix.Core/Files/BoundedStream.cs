using System;
using System.IO;

namespace VMatrix.Files;

/// <summary>Reads what another stream gives, as far as a stated length: a packed file of a few bytes may unpack to more than any memory holds.</summary>
/// <param name="inner">What is read; closed with this.</param>
/// <param name="most">The most bytes that it may give.</param>
/// <param name="what">What is read, as the error names it.</param>
internal sealed class BoundedStream(Stream inner, long most, string what) : Stream
{
    private long _read;

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => _read;
        set => throw new NotSupportedException();
    }

    /// <inheritdoc/>
    /// <exception cref="InvalidDataException">It gives more than it may.</exception>
    public override int Read(byte[] buffer, int offset, int count)
    {
        int got = inner.Read(buffer, offset, count);
        _read += got;
        return _read <= most ? got : throw new InvalidDataException($"{what} unpacks to more than {most >> 20} MiB, which nothing that belongs there does.");
    }

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
            inner.Dispose();
        base.Dispose(disposing);
    }
}
