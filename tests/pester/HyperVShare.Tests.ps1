# Sleeping in the nest's share on doubled Hyper-V hosts, from PowerShell alone: taken off its host, woken on another one, whatever became of the first.
Describe 'A pool whose servers sleep in the nest''s share' {
    BeforeAll {
        . "$PSScriptRoot/Shared.ps1"
        . "$PSScriptRoot/Doubles.ps1"
        Import-Module $Module
        $folder = Join-Path $TestDrive 'office'
        $null = New-Item -ItemType Directory $folder, (Join-Path $folder 'gold')
        $world = Use-DoubleWorld (Join-Path $TestDrive 'world') -HostName hv1, hv2, hv3
        $guests = Start-DoubleGuest $world
        Set-Content (Join-Path $folder 'gold/finance.vhdx') 'finance'
        $port = Get-FreePort
        $pool = Join-Path $folder 'pool.yaml'
        Set-Content $pool @"
pool: office
hypervisor: hyperv
hosts:
  - { name: hv1, memory: 1 GiB, storage: $folder/hv1 }
  - { name: hv2, memory: 1 GiB, storage: $folder/hv2 }
  - { name: hv3, memory: 1 GiB, storage: $folder/hv3, role: chamber }
hyperv: { switch: LAN, nest: share }
nest: { folder: $folder/share }
services:
  - { name: FINANCE, least: 0, most: 3, listen: "127.0.0.1:$port", port: 18080, capacity: 5/s, isolation: shared, image: { disk: gold/finance.vhdx, memory: 256 MiB, specialize: cloudInit }, addresses: { range: 127.42.0.10-127.42.0.20, prefix: 24 }, health: { path: /, interval: 1s } }
balancer: { kind: haproxy, drain: 2s, queueTimeout: 2s }
"@
        $env:VMATRIX_POOL = $pool
        function Get-Record($Server) { Get-Content "$folder/share/asleep/$($Server.Id)/server.json" -Raw -ErrorAction Ignore | ConvertFrom-Json }
    }

    AfterAll {
        Stop-DoublePool $folder $guests
    }

    It 'is right as it is written, and not with a memory that any host may give up' {
        Test-VMatrixPool $pool | Should -BeTrue
        $wrong = Join-Path $folder 'wrong.yaml'
        (Get-Content $pool -Raw).Replace('nest: share', 'nest: share, resumeFailure: boot') | Set-Content $wrong
        Test-VMatrixPool $wrong -WarningVariable told -WarningAction SilentlyContinue -ErrorAction SilentlyContinue | Should -BeFalse
    }

    It 'makes a server into the share, registered on no host' {
        $server = New-VMatrixServer -Service FINANCE
        "$($server.Stage)", "$($server.Power)" | Should -Be 'Nest', 'Off'
        Get-VM -ComputerName hv1, hv2, hv3 | Should -BeNullOrEmpty
        (Get-Record $server).Host | Should -BeNullOrEmpty
    }

    It 'wakes it where it is asked to, and lets it sleep again with its memory' {
        $server = Get-VMatrixServer -Stage Nest
        $awake = Move-VMatrixServer $server -Stage Matrix -Destination hv1 -PassThru
        "$($awake.Stage)", "$($awake.Power)", $awake.Host | Should -Be 'Matrix', 'Running', 'hv1'
        (Invoke-WebRequest "http://127.0.0.1:$port/").StatusCode | Should -Be 200
        $vm = Get-VM -ComputerName hv1
        $vm.HardDrives[0].Path | Should -BeLike "$folder/share/asleep/*"
        Get-Record $server | Should -BeNullOrEmpty
        $vm | Set-VM -Notes ($vm.Notes + "`r`nowner: Ada")
        $asleep = Move-VMatrixServer $server -Stage Nest -PassThru
        "$($asleep.Stage)", "$($asleep.Power)" | Should -Be 'Nest', 'Saved'
        Get-VM -ComputerName hv1, hv2, hv3 | Should -BeNullOrEmpty
        (Get-Record $server).Id | Should -Be $vm.Id
        # One bed, one disk: the copy of the image that the export brought along is gone, and so is what lay there before.
        @(Get-ChildItem "$folder/share/asleep" -Recurse -Filter *.vhdx).Count | Should -Be 1
        (Get-VHD -Path (Get-ChildItem "$folder/share/asleep" -Recurse -Filter *.vhdx).FullName -ComputerName hv2).ParentPath | Should -BeLike "$folder/share/images/*/disk.vhdx"
        @(Get-ChildItem $folder/hv1, $folder/hv2, $folder/hv3 -Recurse -File -ErrorAction Ignore).Count | Should -Be 0
    }

    It 'tells what stands in the way of its wake' {
        $server = Get-VMatrixServer -Stage Nest
        Compare-VMatrixServer $server -Destination hv2 | Where-Object { "$($_.Severity)" -eq 'Blocks' } | Should -BeNullOrEmpty
    }

    It 'wakes it on another host when the one that it slept on is dead' {
        $world.SetDown('hv1', $true)
        $server = Get-VMatrixServer -Stage Nest -ErrorAction SilentlyContinue -ErrorVariable silent
        $silent[0].FullyQualifiedErrorId | Should -BeLike 'HostUnreachable,*'
        $awake = Move-VMatrixServer $server -Stage Matrix -Destination hv2 -PassThru -WarningAction SilentlyContinue
        "$($awake.Stage)", "$($awake.Power)", $awake.Host | Should -Be 'Matrix', 'Running', 'hv2'
        (Invoke-WebRequest "http://127.0.0.1:$port/").StatusCode | Should -Be 200
        (Get-VM -ComputerName hv2).Notes | Should -BeLike "VMatrix:{*}*owner: Ada"
        $world.SetDown('hv1', $false)
        @(Get-VMatrixServer).Count | Should -Be 1
        $world.Violations | Should -BeNullOrEmpty
    }

    It 'leaves nothing of it when it is purged' {
        $server = Get-VMatrixServer -Stage Matrix
        Move-VMatrixServer $server -Stage Nest
        Remove-VMatrixServer $server -Force
        (Get-VMatrixServer -Stage Disposed).Id | Should -Be $server.Id
        Remove-VMatrixServer $server -Purge -Force
        Get-VMatrixServer | Should -BeNullOrEmpty
        Get-ChildItem "$folder/share/asleep", "$folder/share/addresses", "$folder/share/traces" -Recurse -File | Should -BeNullOrEmpty
    }
}
