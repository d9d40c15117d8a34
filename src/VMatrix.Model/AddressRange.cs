using System;
using System.Collections.Generic;
using System.Globalization;

namespace VMatrix;

/// <summary>IPv4 addresses one after another.</summary>
/// <param name="First">The lowest address, as a number.</param>
/// <param name="Last">The highest address, as a number; not below <paramref name="First"/>.</param>
public sealed record AddressRange(uint First, uint Last)
{
    /// <summary>How many addresses it holds.</summary>
    public long Count => (long)Last - First + 1;

    /// <summary>The addresses in their order, as people write them.</summary>
    public IEnumerable<string> All()
    {
        for (long address = First; address <= Last; address++)
            yield return Show((uint)address);
    }

    /// <summary>True for an address of the range; false for any other text.</summary>
    public bool Contains(string address) => TryRead(address, out var number) && number >= First && number <= Last;

    /// <summary>True when an address is in both.</summary>
    public bool Overlaps(AddressRange other)
    {
        _ = other ?? throw new ArgumentNullException(nameof(other));
        return First <= other.Last && other.First <= Last;
    }

    /// <summary>The range as a pool file has it: <c>10.0.5.10-10.0.5.60</c>.</summary>
    public override string ToString() => $"{Show(First)}-{Show(Last)}";

    /// <summary>Reads <c>10.0.5.10-10.0.5.60</c>; null for what is no range.</summary>
    public static AddressRange? TryParse(string text)
    {
        var ends = (text ?? "").Split('-');
        return ends.Length == 2 && TryRead(ends[0].Trim(), out var first) && TryRead(ends[1].Trim(), out var last) && first <= last ? new AddressRange(first, last) : null;
    }

    /// <summary>Reads an IPv4 address of four plain numbers. What other readers take besides, such as <c>10.1</c> or <c>010.0.0.1</c>, is none.</summary>
    public static bool TryRead(string? text, out uint address)
    {
        address = 0;
        var parts = (text ?? "").Split('.');
        if (parts.Length != 4)
            return false;
        foreach (var part in parts)
        {
            if (!byte.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out var value) || part != value.ToString(CultureInfo.InvariantCulture))
                return false;
            address = (address << 8) | value;
        }

        return true;
    }

    /// <summary>An address as people write it.</summary>
    public static string Show(uint address) =>
        FormattableString.Invariant($"{address >> 24}.{(address >> 16) & 255}.{(address >> 8) & 255}.{address & 255}");
}
