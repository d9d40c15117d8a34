using System;
using System.Globalization;

namespace VMatrix;

/// <summary>Moments in sentences for people.</summary>
public static class Times
{
    /// <summary>A moment in this machine's time zone, as tables show it: <c>2026-11-30 20:15:00</c>.</summary>
    public static string Show(DateTimeOffset at) => at.LocalDateTime.ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture);
}
