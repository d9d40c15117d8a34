# Writes the doubled Windows modules once for each build of the doubles, and puts them on the module path of this process.
# Use-DoubleWorld makes a world in a folder and lets the modules work on it; commands that make trouble are methods of what it returns.
$assembly = (Resolve-Path "$PSScriptRoot/../VMatrix.Doubles/bin/*/net10.0/VMatrix.Doubles.dll" | Sort-Object { (Get-Item $_).LastWriteTimeUtc } | Select-Object -Last 1).Path
if (-not $assembly) { throw 'tests/VMatrix.Doubles is not built: ./build.sh build' }
$script:DoubleModules = Join-Path ([IO.Path]::GetDirectoryName($assembly)) 'modules'
Add-Type -LiteralPath $assembly
$null = [VMatrix.Doubles.ModuleWriter]::EnsureAsync($script:DoubleModules).GetAwaiter().GetResult()
$separator = [IO.Path]::PathSeparator
if (($env:PSModulePath -split $separator) -notcontains $script:DoubleModules) { $env:PSModulePath = $script:DoubleModules + $separator + $env:PSModulePath }

# A world with hosts in a folder; the doubled modules work on it from now on.
function Use-DoubleWorld {
    param([Parameter(Mandatory)] [string] $Folder, [string[]] $HostName = @('host1', 'host2'))
    $world = [VMatrix.Doubles.DoubleWorld]::new($Folder, $null)
    $world.SetTimes([timespan]'00:00:00.1', [timespan]'00:00:00.02', 1PB)
    foreach ($name in $HostName) { $world.AddHost($name) }
    [Environment]::SetEnvironmentVariable([VMatrix.Doubles.DoubleWorld]::Variable, $world.Folder)
    $world
}

# Answers HTTP for the guests of a world, each at an address of its own in 127.0.0.0/8; to be disposed of.
function Start-DoubleGuest {
    param([Parameter(Mandatory)] $World)
    [VMatrix.Doubles.GuestListeners]::new($World)
}

# Waits for what comes by itself, such as a guest that boots; a minute at most.
function Wait-Until([scriptblock] $Condition) {
    $watch = [Diagnostics.Stopwatch]::StartNew()
    while (-not (& $Condition)) {
        if ($watch.Elapsed.TotalSeconds -gt 60) { throw "Not within a minute: $Condition" }
        Start-Sleep -Milliseconds 100
    }
}

# Ports of this machine that nobody listens at.
function Get-FreePort([int] $Count = 1) {
    foreach ($i in 1..$Count) { $l = [Net.Sockets.TcpListener]::new([Net.IPAddress]::Loopback, 0); $l.Start(); $l.LocalEndpoint.Port; $l.Stop() }
}

# Ends what a pool on a double leaves: its balancer, the module with what it holds open, the guests, the world's name.
function Stop-DoublePool([string] $Folder, $Guest) {
    $env:VMATRIX_POOL = $null
    Get-ChildItem $Folder -Recurse -Force -Filter haproxy.pid | ForEach-Object { Stop-Process -Id ([regex]::Match((Get-Content $_ -Raw), '\d+').Value) -Force -ErrorAction SilentlyContinue }
    Remove-Module VMatrix -Force
    if ($Guest) { $Guest.Dispose() }
    [Environment]::SetEnvironmentVariable([VMatrix.Doubles.DoubleWorld]::Variable, $null)
}
