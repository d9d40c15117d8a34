# What an operator changes at run time.
BeforeAll {
    . "$PSScriptRoot/Shared.ps1"
    Import-Module $Module
}

Describe 'A host' {
    BeforeAll {
        $env:VMATRIX_POOL = New-TestPool
        $null = Invoke-VMatrixSwitch
    }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'is emptied, taken out of use, and brought back' {
        $busy = (Get-VMatrixServer -Stage Matrix)[0].Host
        $spec = Get-Content -Raw $env:VMATRIX_POOL
        Suspend-VMatrixHost $busy -WhatIf
        (Get-VMatrixHost $busy).Suspended | Should -BeFalse
        $after = Get-VMatrixHost $busy | Suspend-VMatrixHost -PassThru
        $after.Suspended | Should -BeTrue
        $after.SuspendedBy | Should -Not -BeNullOrEmpty
        Get-VMatrixServer -HostName $busy | Should -BeNullOrEmpty
        (Get-VMatrixServer -Stage Matrix).Service | Sort-Object | Should -Be 'FINANCE', 'SPORTS' -Because 'there was room elsewhere'
        Get-Content -Raw $env:VMATRIX_POOL | Should -Be $spec
        (Resume-VMatrixHost $busy -PassThru).Suspended | Should -BeFalse
        Resume-VMatrixHost $busy
    }

    It 'that the pool does not have is told alone, with -WhatIf too' {
        $complaints = $null
        Suspend-VMatrixHost nohost, host3 -WhatIf -ErrorAction SilentlyContinue -ErrorVariable complaints
        $complaints.FullyQualifiedErrorId | Should -Be 'HostNotFound,VMatrix.Commands.SuspendVMatrixHostCommand'
        $complaints.TargetObject | Should -Be 'nohost'
    }

    It 'is suspended with others before any of them is emptied' {
        $hosts = @((Get-VMatrixServer -Stage Matrix).Host | Select-Object -Unique)
        $null = $hosts | Suspend-VMatrixHost -ErrorAction SilentlyContinue
        @(Get-VMatrixHost $hosts | Where-Object Suspended).Count | Should -Be @($hosts).Count
        Get-VMatrixMove | Where-Object { $_.Move.FromHost -in $hosts -and $_.Move.ToHost -in $hosts -and $_.Move.FromHost -ne $_.Move.ToHost } | Should -BeNullOrEmpty
        $hosts | Resume-VMatrixHost
    }

    It 'that answers is not dead' {
        $complaints = $null
        Suspend-VMatrixHost host3, nohost -ConfirmDead -ErrorAction SilentlyContinue -ErrorVariable complaints
        $complaints.FullyQualifiedErrorId | Should -Be 'HostAlive,VMatrix.Commands.SuspendVMatrixHostCommand', 'HostNotFound,VMatrix.Commands.SuspendVMatrixHostCommand'
        $complaints.TargetObject | Should -Be 'host3', 'nohost'
        (Get-VMatrixHost host3).Suspended | Should -BeFalse
    }
}

Describe 'A service' {
    BeforeAll { $env:VMATRIX_POOL = New-TestPool }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'is pinned, switched to the pin, and left to the Oracle again' {
        Set-VMatrixService FINANCE 3 -WhatIf
        (Get-VMatrixService FINANCE).Pinned | Should -BeNullOrEmpty
        $after = Get-VMatrixService FINANCE | Set-VMatrixService -Servers 3 -Until (Get-Date).AddHours(1) -PassThru
        $after.Pinned | Should -Be 3
        $after.PinnedBy | Should -Not -BeNullOrEmpty
        Invoke-VMatrixSwitch
        @(Get-VMatrixServer -Service FINANCE -Stage Matrix).Count | Should -Be 3
        (Set-VMatrixService FINANCE -Auto -PassThru).Pinned | Should -BeNullOrEmpty
        $complaints = $null
        Set-VMatrixService FINANCE -Servers 99 -ErrorAction SilentlyContinue -ErrorVariable complaints
        $complaints[0].FullyQualifiedErrorId | Should -BeLike 'CountOutOfRange,*'
    }
}

Describe 'A move that was cut short' {
    # A process of its own starts a slow wake and is killed in the middle: what a loss of power leaves behind.
    It 'is <Done> by <Command>' -ForEach @{ Command = 'Resume-VMatrixMove'; Done = 'Done'; Stage = 'Matrix' }, @{ Command = 'Undo-VMatrixMove'; Done = 'Undone'; Stage = 'Nest' } {
        $env:VMATRIX_POOL = New-TestPool -Simulation 'bootTime: 3s', 'wakeTime: 3s'
        $mover = $null
        try {
            $server = New-VMatrixServer FINANCE
            $mover = [System.Diagnostics.Process]::Start('pwsh', @('-NoProfile', '-NonInteractive', '-Command', "Import-Module '$Module'; Move-VMatrixServer $($server.Id) -Stage Matrix"))
            $patience = [System.Diagnostics.Stopwatch]::StartNew()
            while (-not (Get-VMatrixMove -Status Running | Where-Object Step -EQ 'check') -and $patience.Elapsed.TotalSeconds -lt 120) { Start-Sleep -Milliseconds 20 }
            $mover.Kill()
            $mover.WaitForExit()
            $open = @(Get-VMatrixMove -Status Interrupted)
            $open.Count | Should -Be 1
            $record = $open | & $Command -PassThru
            $record.Status | Should -Be $Done
            $record.Id | Should -Be $open[0].Id
            Get-VMatrixMove -Status Running, Interrupted, Pending | Should -BeNullOrEmpty
            (Get-VMatrixServer -Id $server.Id).Stage | Should -Be $Stage
            $complaints = $null
            & $Command ([guid]::NewGuid()) -ErrorAction SilentlyContinue -ErrorVariable complaints
            $complaints[0].FullyQualifiedErrorId | Should -BeLike 'MoveNotFound,*'
        }
        finally {
            if ($mover -and -not $mover.HasExited) { $mover.Kill() }
            $env:VMATRIX_POOL = $null
        }
    }
}

Describe 'A server repaired in the Chamber' {
    BeforeAll {
        $env:VMATRIX_POOL = New-TestPool
        $script:Servers = New-VMatrixServer FINANCE -Count 3
        $script:Repaired = $Servers[0] | Move-VMatrixServer -Stage Chamber -PassThru
        $Servers[1, 2] | Move-VMatrixServer -Stage Matrix
    }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'is not published by -WhatIf, nor from elsewhere than the Chamber' {
        $Repaired | Publish-VMatrixImage -WhatIf | Should -BeNullOrEmpty
        Get-VMatrixMove | Where-Object { $_.Move.Kind -eq 'Publish' } | Should -BeNullOrEmpty
        $complaint = $null
        Publish-VMatrixImage $Servers[1] -ErrorAction SilentlyContinue -ErrorVariable complaint
        $complaint[0].FullyQualifiedErrorId | Should -Be 'NotInChamber,VMatrix.Commands.PublishVMatrixImageCommand'
        $complaint[0].CategoryInfo.Category | Should -Be 'InvalidOperation'
        $complaint[0].Exception.Message | Should -BeLike "*Move-VMatrixServer $($Servers[1].Id) -Stage Chamber*"
    }

    It 'becomes the image that its service''s servers are replaced by, and there is a way back' {
        $remote = [System.Management.Automation.PSSerializer]::Deserialize([System.Management.Automation.PSSerializer]::Serialize($Repaired))
        $image = $remote | Publish-VMatrixImage
        $image | Should -BeOfType VMatrix.PublishedImage
        $image.Service, $image.From, $image.ServerId, $image.ServerName | Should -Be 'FINANCE', $Repaired.Image, $Repaired.Id, $Repaired.Name
        ($image | Format-Table | Out-String) | Should -Match "FINANCE +$($image.Version) +$($image.From)"
        (Get-VMatrixServer $Repaired.Name).Stage | Should -Be 'Chamber'
        (Get-VMatrixMove $Repaired.Name -Newest 1).Move.Kind | Should -Be 'Publish'

        Update-VMatrixService FINANCE -WhatIf | Should -BeNullOrEmpty
        (Get-VMatrixServer -Stage Matrix).Image | Select-Object -Unique | Should -Be $image.From
        $result = Get-VMatrixService FINANCE | Update-VMatrixService -BatchSize 2 -Watch 00:00:00.1
        $result.Status, $result.Image, $result.Replaced | Should -Be 'Done', $image.Version, 2
        (Get-VMatrixServer -Stage Matrix).Image | Select-Object -Unique | Should -Be $image.Version

        Publish-VMatrixImage -Service FINANCE -Version $image.From -WhatIf
        (New-VMatrixServer FINANCE).Image | Should -Be $image.Version
        Publish-VMatrixImage -Service FINANCE -Version $image.From | Should -BeNullOrEmpty
        (New-VMatrixServer FINANCE).Image | Should -Be $image.From
        $complaint = $null
        Publish-VMatrixImage -Service FINANCE -Version nowhere -ErrorAction SilentlyContinue -ErrorVariable complaint
        $complaint[0].FullyQualifiedErrorId | Should -Be 'ImageNotFound,VMatrix.Commands.PublishVMatrixImageCommand'
    }
}
